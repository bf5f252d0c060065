# frozen_string_literal: true

# When this process served: a line as it begins to fetch jobs (up), as it stops fetching (quiet) and as it is told to
# end (down), in log/life.jsonl. Heartbeats tell the same up to 5 s late; a killed process says nothing.

require "json"
require "sidekiq"
require_relative "runs"

module Life
  PATH = File.join(__dir__, "..", "log", "life.jsonl")
  FILE = File.open(PATH, File::WRONLY | File::APPEND | File::CREAT, 0o644)

  def self.write(event)
    FILE.syswrite("#{JSON.generate("event" => event, "unit" => Runs::UNIT, "pid" => Process.pid, "at" => Time.now.to_f)}\n")
  end
end

Sidekiq.configure_server do |config|
  config.on(:startup) { Life.write("up") }
  config.on(:quiet) { Life.write("quiet") }
  config.on(:shutdown) { Life.write("down") }
end
