package httpapi

import "github.com/go-chi/chi/v5"

// Routes are the server's.
func (s *Server) Routes() chi.Routes { return s.api.router }
