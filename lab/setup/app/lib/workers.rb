# frozen_string_literal: true

# Mastodon's main workers on their queues. A job's arguments say how long it takes, so that a run can be repeated:
# [number, seconds, seconds_of_that_within_a_query]; without them a duration is drawn from the worker's own spread.

require "sidekiq"
require_relative "database"

# A duration in seconds: lognormal with this median; half of all jobs lie within a factor of about 1.7 of it.
SPREAD = 0.8

# Once this file is there, jobs that would take so long and more end at once.
LET_GO = File.join(__dir__, "..", "log", "let-go")
LET_GO_FROM_SECONDS = 30

module TakesTime
  def perform(number = 0, seconds = nil, query_seconds = 0.0)
    seconds ||= self.class::MEDIAN_SECONDS * Math.exp(SPREAD * normal)
    Account.with_connection_of_a_job do
      Account.find_by!(id: 1 + number % Account::COUNT)
      Account.connection.execute("SELECT pg_sleep(#{Float(query_seconds)})") if query_seconds.positive?
      rest(seconds - query_seconds)
      Account.where(id: 1 + number % Account::COUNT).pick(:statuses_count)
    end
  end

  private

  # However long a test takes to look at a long job under way, it is still there; and it is over when it is let go.
  def rest(seconds)
    return sleep([seconds, 0].max) if seconds < LET_GO_FROM_SECONDS

    ends_at = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
    sleep(0.1) until File.exist?(LET_GO) || Process.clock_gettime(Process::CLOCK_MONOTONIC) >= ends_at
  end

  # Box and Muller, 1958
  def normal = Math.sqrt(-2 * Math.log(1 - rand)) * Math.cos(2 * Math::PI * rand)
end

# name => [queue, median duration in seconds, retries as in Mastodon (true = Sidekiq's 25)]
WORKERS = {
  "FeedInsertWorker" => ["default", 0.03, true],
  "LocalNotificationWorker" => ["default", 0.05, true],
  "DistributionWorker" => ["default", 0.1, true],
  "ActivityPub::DeliveryWorker" => ["push", 0.3, 16],
  "ActivityPub::ProcessingWorker" => ["ingress", 0.15, 8],
  "ActionMailer::MailDeliveryJob" => ["mailers", 0.4, true],
  "ThreadResolveWorker" => ["pull", 0.8, 3],
  "RemoteAccountRefreshWorker" => ["pull", 0.6, 3],
  "ImportWorker" => ["pull", 3.0, false],
  "BackupWorker" => ["pull", 5.0, 5],
  "Fasp::AnnounceContentLifecycleEventWorker" => ["fasp", 0.2, 5],
  "Scheduler::ScheduledStatusesScheduler" => ["scheduler", 0.05, 0],
  "Scheduler::IndexingScheduler" => ["scheduler", 0.1, 0],
}.freeze

WORKERS.each do |name, (queue, median, retries)|
  worker = Class.new do
    include Sidekiq::Worker
    include TakesTime
    sidekiq_options queue: queue, retry: retries
  end
  worker.const_set(:MEDIAN_SECONDS, median)
  *modules, last = name.split("::")
  home = modules.reduce(Object) { |at, part| at.const_defined?(part, false) ? at.const_get(part) : at.const_set(part, Module.new) }
  home.const_set(last, worker)
end
