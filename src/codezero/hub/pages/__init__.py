"""The few pages the Hub makes itself, for signing in where a browser is needed: plain HTML and one style sheet, no script, nothing from elsewhere.

What is shown came from somebody, so it is escaped where it is put in; what is sent back needs to come from these pages.
"""
