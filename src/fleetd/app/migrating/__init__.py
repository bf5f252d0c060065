"""`fleetctl migrate`: from an admin's own Sidekiq units to fleetd's and back, step by step, and no job is lost."""
