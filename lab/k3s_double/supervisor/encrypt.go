package supervisor

import (
	"io"
	"net/http"

	"edgefleet.local/k3s_double/status"
)

const maxRequest = 1 << 16

func (s *Server) encryptionStatus(w http.ResponseWriter, r *http.Request, _ caller) {
	if s.core.Load() == nil {
		status.Write(w, http.StatusServiceUnavailable, "runtime core not ready")
		return
	}
	state, err := s.Encryption.Status(r.Context())
	if err != nil {
		withID(w, "secrets-encrypt", http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, state)
}

func (s *Server) encryptionChange(w http.ResponseWriter, r *http.Request, _ caller) {
	if r.Method != http.MethodPut {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if s.core.Load() == nil {
		status.Write(w, http.StatusServiceUnavailable, "runtime core not ready")
		return
	}
	request, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err == nil {
		err = s.Encryption.Change(r.Context(), request)
	}
	if err != nil {
		withID(w, "secrets-encrypt", http.StatusBadRequest, err)
	}
}
