"""The machine's end of paired pages: a process of the user's in the background that answers what the Hub's page asks of this machine (ADR 17).

It is reached directly, on loopback, and through the Hub, to which it keeps a WebSocket. Neither way is believed: each request is signed by its page. It
exists while a page is paired, or `czctl pair` waits for one.
"""
