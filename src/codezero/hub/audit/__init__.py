"""The audit: what was done in an organization, by whom, and what was refused. Added to and never changed, each entry bound to the one before (T42).

`recording` adds, in the transaction of what it tells. `verifying` needs neither a database nor a Hub, so that outsiders can check what they were given.
"""

from codezero.hub.audit.entries import Entry
from codezero.hub.audit.recording import record

__all__ = ["Entry", "record"]
