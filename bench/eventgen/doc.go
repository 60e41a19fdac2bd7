// Package eventgen knows what coordinators write: the events of many migrations, each
// from AddLearner to its removal or abort. It does not know who stores them.
package eventgen
