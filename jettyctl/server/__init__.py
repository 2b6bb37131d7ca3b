"""What jettyctl is to others: servers. The client never imports anything from here."""
