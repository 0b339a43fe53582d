// Package status answers with errors the way the Kubernetes API does.
package status

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Write sends one error.
func Write(w http.ResponseWriter, code int, message string) {
	content, err := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "message": message,
		"reason": strings.ReplaceAll(http.StatusText(code), " ", ""), "code": code,
	})
	if err != nil { // strings and a number only
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(content, '\n'))
}
