# frozen_string_literal: true

# Where Sidekiq's Redis is, from the same variables and with the same precedence as in Mastodon: the SIDEKIQ_ ones
# when they say a URL, Sentinels or a host, else the plain ones; and of each, Sentinels before a host.

require "sidekiq"
require "uri"

# Sidekiq 6.4 with redis-rb 4.8 would print a line for each push. Sidekiq 7 comes without redis-rb.
Redis.silence_deprecations = true if defined?(Redis) && Redis.respond_to?(:silence_deprecations=)

module SidekiqRedis
  PREFIX = %w[URL SENTINEL_MASTER HOST].any? { |name| ENV["SIDEKIQ_REDIS_#{name}"].to_s != "" } ? "SIDEKIQ_" : ""

  def self.setting(name, default = nil)
    value = ENV["#{PREFIX}REDIS_#{name}"].to_s
    value.empty? ? default : value
  end

  def self.url
    return setting("URL") if setting("URL")

    password = setting("PASSWORD")
    return "redis://#{setting("SENTINEL_MASTER")}/#{setting("DB", "0")}" if sentinels

    login = password ? "#{setting("USER", "")}:#{URI.encode_www_form_component(password)}@" : ""
    "redis://#{login}#{setting("HOST", "localhost")}:#{setting("PORT", "6379")}/#{setting("DB", "0")}"
  end

  def self.sentinels
    return if setting("URL") || !setting("SENTINEL_MASTER")

    setting("SENTINELS")&.split(",")&.map do |entry|
      host, port = entry.split(":")
      { host: host, port: Integer(port || setting("SENTINEL_PORT", "26379")) }
    end
  end

  def self.options
    namespace = ENV["REDIS_NAMESPACE"].to_s
    options = { url: url, driver: :ruby }
    options.merge!(sentinels: sentinels, role: :master, password: setting("PASSWORD")) if sentinels
    options[:namespace] = namespace unless namespace.empty?
    options
  end
end

Sidekiq.configure_server { |config| config.redis = SidekiqRedis.options }
Sidekiq.configure_client { |config| config.redis = SidekiqRedis.options }
