"""Somebody is told: channels by which notices reach people, and the companion that sends them."""
