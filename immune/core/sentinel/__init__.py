"""The sentinel: what is normal for each agent, how surprising its vitals are, and what adds up to evidence.

`watch.Sentinel` is the door; docs/sentinel.md says what it does and how well.
"""
