package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
)

// tokenChange takes {"newToken": "..."}; an empty one asks for one at random.
func (s *Server) tokenChange(w http.ResponseWriter, r *http.Request, _ caller) {
	if r.Method != http.MethodPut {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var request struct {
		NewToken *string `json:"newToken"`
	}
	err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&request)
	if err == nil && request.NewToken == nil {
		err = errors.New("no newToken")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.RotateToken(*request.NewToken); err != nil {
		withID(w, "token", http.StatusInternalServerError, err)
	}
}

// withID tells the caller only a number; what it stands for is in the log.
func withID(w http.ResponseWriter, component string, code int, err error) {
	id := rand.IntN(100000)
	log.Printf("%s error ID %05d: %v", component, id, err)
	w.WriteHeader(code)
	fmt.Fprintf(w, "%s error ID %05d", component, id)
}
