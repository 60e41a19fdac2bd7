package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Code is the kind of an error that a process returns to its caller.
type Code string

// The codes.
const (
	NotLeader            Code = "not_leader"            // another replica leads: see Error.Leader
	NotHosted            Code = "not_hosted"            // the node has no replica of the group: see Error.Leader
	Fenced               Code = "fenced"                // the group has seen a higher epoch
	ConfigurationChanged Code = "configuration_changed" // another change of the membership came first
	Failed               Code = "failed"                // the outcome is unknown
)

// Error is an error of the called process.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Leader  string `json:"leader,omitempty"` // the endpoint that probably leads
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an error with a code.
func Errorf(code Code, leader, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Leader: leader}
}

// CodeOf returns the code of an error of the called process, or "" for another error.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Call calls a method of an endpoint's API. If the endpoint has returned an error, it is an *Error.
// After any other error, the outcome is unknown.
func Call[Response any](ctx context.Context, n *Network, endpoint, method string, request any) (r Response, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return r, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+endpoint+"/"+method, bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	answer, err := n.http.Do(post)
	if err != nil {
		return r, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		failure := &Error{Code: Failed, Message: answer.Status}
		if err := json.NewDecoder(answer.Body).Decode(failure); err != nil {
			return r, fmt.Errorf("%s of %s: %s: %w", method, endpoint, answer.Status, err)
		}
		return r, fmt.Errorf("%s of %s: %w", method, endpoint, failure)
	}
	return r, json.NewDecoder(answer.Body).Decode(&r)
}

// Handle adds a method to an API.
func Handle[Request, Response any](api *http.ServeMux, method string, handle func(context.Context, Request) (Response, error)) {
	api.HandleFunc("POST /"+method, func(w http.ResponseWriter, r *http.Request) {
		var request Request
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response, err := handle(r.Context(), request)
		if err == nil {
			_ = json.NewEncoder(w).Encode(response) // the caller sees a connection that ends early
			return
		}
		failure := new(Error)
		if !errors.As(err, &failure) {
			failure = &Error{Code: Failed, Message: err.Error()}
		}
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(failure)
	})
}
