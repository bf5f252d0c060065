# Reads what fleetd reads with Sidekiq's own Ruby API, once for each line on stdin; for benchmarks/redis_reading.py.
#
#     ruby sidekiq_api.rb SOCKET
#
# Answers each line with the CPU seconds that the reading took here, and what it counted: queues, processes, running jobs.

require "sidekiq"
require "sidekiq/api"

Sidekiq.configure_client { |config| config.redis = {path: ARGV[0], size: 1} }
$stdout.sync = true

def reading
  stats = Sidekiq::Stats.new
  stats.processed
  stats.failed
  queues = Sidekiq::Queue.all.map { |queue| [queue.name, queue.size, queue.latency] }
  processes = Sidekiq::ProcessSet.new(false).to_a # false: without removing the dead, as fleetd does not either
  running = Sidekiq::WorkSet.new.to_a
  [queues.size, processes.size, running.size]
end

while $stdin.gets
  before = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  counted = reading
  after = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  puts [after - before, *counted].join(" ")
end
