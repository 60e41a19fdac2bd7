// Package eventgen generates the events that coordinators write: many migrations, each from
// AddLearner to its removal or abort. It does not know which store writes them.
package eventgen
