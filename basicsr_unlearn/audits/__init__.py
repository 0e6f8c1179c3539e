"""Audits: functions from networks and data to numbers, which never change a network that they are given."""
