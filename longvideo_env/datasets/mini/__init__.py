"""`mini`: a made-up world of small videos."""
