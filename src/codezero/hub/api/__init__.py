"""The Hub's HTTP API: who asks and may they, what they say and what they are told. What is done is decided by the packages beside this one."""
