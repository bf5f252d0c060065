# frozen_string_literal: true

# The version, in methods as Mastodon has them.
module Mastodon
  module Version
    module_function

    def major
      4
    end

    def minor
      5
    end

    def patch
      3
    end

    def default_prerelease
      ''
    end

    def to_s
      [[major, minor, patch].join('.'), default_prerelease].reject(&:empty?).join('-')
    end
  end
end
