"""What a person sees. Each screen turns a value into the lines of a Page.

Whether something is good or bad is judged in advice, never here.
"""
