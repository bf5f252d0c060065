# frozen_string_literal: true

# What `bundle exec` does first in every boot: a gem that Gemfile.lock names and nobody has installed ends it at once.

ROOT = File.join(__dir__, "..")
locked = File.readlines(File.join(ROOT, "Gemfile.lock")).filter_map { |line| line[/^    (\S+ \(\S+\))$/, 1] }
missing = locked - File.readlines(File.join(ROOT, "vendor", "installed"), chomp: true)
raise LoadError, "Could not find #{missing.join(", ")} in locally installed gems" unless missing.empty?
