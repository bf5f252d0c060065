# frozen_string_literal: true

# Stands for Mastodon's web and streaming: holds connections to the database, as idle Puma threads do.
# web.rb HOW_MANY DATABASE PASSWORD_FILE

require "pg"

number, database, password_file = ARGV
password = File.read(password_file).strip
connections = Array.new(Integer(number)) do
  PG.connect(host: "127.0.0.1", dbname: database, user: "mastodon", password: password)
end
loop do
  sleep 5
  connections.each { |connection| connection.exec("SELECT 1") }
end
