"""People's orders to several hosts: what each changes in the ledger, or why it is refused; how it is heard."""
