"""The relay: what pages ask of machines through the Hub (ADR 17). The Hub passes on, and is believed by neither.

A machine keeps one WebSocket to whichever replica it came to. Whoever asks may be at another one: then question and answer go by the database.
"""
