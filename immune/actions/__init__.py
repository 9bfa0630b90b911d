"""Every healing action, one file each. What is not in this list cannot be planned, approved or carried out."""

from immune.actions import clear_cache, reduce_autonomy, replace_agent, reset_agent, reset_memory, restart_agent, revoke_tools, rollback_prompt

ACTIONS = tuple(
    module.ACTION for module in (reset_memory, reduce_autonomy, clear_cache, rollback_prompt, revoke_tools, restart_agent, reset_agent, replace_agent)
)
