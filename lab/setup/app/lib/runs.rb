# frozen_string_literal: true

# Records every run of every job, so that lost and repeated ones can be counted: a line when it starts and a line
# when it ends, each appended by one write (log/runs.jsonl). A start without an end is a job that died with its process.

require "json"
require "sidekiq"

module Runs
  PATH = File.join(__dir__, "..", "log", "runs.jsonl")
  FILE = File.open(PATH, File::WRONLY | File::APPEND | File::CREAT, 0o644)
  # "mastodon-sidekiq@3.service", from the control group that systemd put us in
  UNIT = File.read("/proc/self/cgroup")[%r{^0::.*/([^/\n]+)$}, 1].to_s

  def self.write(fields)
    FILE.syswrite("#{JSON.generate(fields.merge("unit" => UNIT, "pid" => Process.pid, "at" => Time.now.to_f))}\n")
  end

  class Middleware
    def call(_worker, job, queue)
      told = { "jid" => job["jid"], "class" => job["class"], "queue" => queue, "enqueued_at" => job["enqueued_at"] }
      Runs.write(told.merge("event" => "start"))
      result = "failed"
      begin
        yield
        result = "done"
      rescue Sidekiq::Shutdown # the process ends: Sidekiq has pushed the job back
        result = "pushed_back"
        raise
      ensure
        Runs.write(told.merge("event" => "end", "result" => result))
      end
    end
  end
end

Sidekiq.configure_server do |config|
  config.server_middleware { |chain| chain.prepend Runs::Middleware }
end
