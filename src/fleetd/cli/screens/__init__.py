"""What a person sees: each screen takes a value and a Page, and gives lines.

What is good or bad about the value is judged in advice, never here.
"""
