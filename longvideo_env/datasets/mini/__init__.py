"""`mini`: a generated world of small videos."""
