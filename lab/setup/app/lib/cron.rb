# frozen_string_literal: true

# The cron jobs of Mastodon, enqueued by whichever process serves the queue `scheduler`: every one of them, which is
# why there must be just one. Same engine and behaviour as sidekiq-scheduler: `every` counts from the process's
# start, nothing is caught up, and a quiet process schedules nothing more.

require "rufus-scheduler"
require "sidekiq"
require_relative "runs"
require_relative "workers"

module Cron
  EVERY_SECONDS = Float(ENV.fetch("LAB_CRON_SECONDS", "10"))
  JOBS = WORKERS.select { |_, (queue, *)| queue == "scheduler" }.keys

  def self.start
    @engine = Rufus::Scheduler.new
    JOBS.each do |name|
      @engine.every("#{EVERY_SECONDS}s") { enqueue(name) }
    end
  end

  def self.enqueue(name)
    jid = Sidekiq::Client.push("class" => name, "queue" => "scheduler", "args" => [])
    Runs.write("event" => "enqueue", "jid" => jid, "class" => name, "queue" => "scheduler")
  end

  def self.stop = @engine&.stop
end

Sidekiq.configure_server do |config|
  config.on(:startup) do
    queues = Gem::Version.new(Sidekiq::VERSION) < Gem::Version.new("7") ? Sidekiq.options[:queues] : config.queues
    Cron.start if queues.include?("scheduler")
  end
  config.on(:quiet) { Cron.stop }
end
