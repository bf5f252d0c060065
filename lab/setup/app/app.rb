# frozen_string_literal: true

# A stand-in for Mastodon where its own gems can't be had: real Sidekiq, real ActiveRecord on PostgreSQL, Mastodon's
# queues, worker names and settings, and the engine inside sidekiq-scheduler. Loaded by `sidekiq -r ./app.rb`.

require_relative "lib/gems"
require "dotenv"
Dotenv.load(File.join(__dir__, ".env.production"))

require_relative "lib/redis"
require_relative "lib/database"
require_relative "lib/runs"
require_relative "lib/life"
require_relative "lib/workers"
require_relative "lib/cron"

Sidekiq.logger.level = Logger.const_get(ENV.fetch("RAILS_LOG_LEVEL", "info").upcase)

# Rails takes its time.
sleep Float(ENV.fetch("LAB_BOOT_SECONDS", "3"))
