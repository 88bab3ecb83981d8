//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
)

// problems serves the catalogue of problems, or only the entry of {code}.
func problems(file string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		page := string(text)
		if code := r.PathValue("code"); code != "" {
			_, entry, ok := strings.Cut(page, "\n## "+code+"\n")
			if !ok {
				http.Error(w, "No such problem. The list is at /problems/", http.StatusNotFound)
				return
			}
			entry, _, _ = strings.Cut(entry, "\n## ")
			page = "# " + code + "\n" + entry
		}
		w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
		fmt.Fprint(w, page)
	}
}
