# frozen_string_literal: true

# The database as Mastodon's config/database.yml sets it up: a pool of DB_POOL connections that are opened when a
# thread first needs one, and an empty application_name (so that PGAPPNAME is ignored).

require "active_record"

settings = {
  adapter: "postgresql",
  pool: Integer(ENV["DB_POOL"] || ENV["MAX_THREADS"] || 5),
  timeout: 5000,
  connect_timeout: 15,
  encoding: "unicode",
  sslmode: ENV["DB_SSLMODE"] || "prefer",
  application_name: "",
  prepared_statements: ENV["PREPARED_STATEMENTS"] != "false",
  host: ENV["DB_HOST"],
  port: Integer(ENV["DB_PORT"] || 5432),
  username: ENV["DB_USER"] || "mastodon",
  password: ENV["DB_PASS"].to_s,
  database: ENV["DB_NAME"] || "mastodon_production"
}
# Over these, part by part, as Rails does it.
settings[:url] = ENV["DATABASE_URL"] unless ENV["DATABASE_URL"].to_s.empty?
ActiveRecord::Base.establish_connection(settings)

class Account < ActiveRecord::Base
  COUNT = 1000

  # A query, and what a thread of Rails does at the end of a job: give the connection back to the pool.
  def self.with_connection_of_a_job
    yield
  ensure
    ActiveRecord::Base.connection_handler.clear_active_connections!
  end
end
