# What `rails db:migrate` brings the database to.
ActiveRecord::Schema[8.0].define(version: 2025_10_07_000001) do
end
