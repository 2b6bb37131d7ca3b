"""An edge: carries signed part uploads to the origins that its operator named, and nothing else to nobody else.

    channel -> heads -> policy -> relay -> origin
                          |
                      refused, health, probe

`connection.py` walks one client's requests along this way, `app.py` accepts clients and ends the whole.
"""
