package wire

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ProxyName is the endpoint name of the proxy between the sites.
const ProxyName = "proxy"

// NodeName returns the endpoint name of a node.
func NodeName(node uint64) string { return fmt.Sprintf("node-%d", node) }

// CoordinatorName returns the endpoint name of the coordinator at the site of a node.
func CoordinatorName(node uint64) string { return fmt.Sprintf("coordinator-%d", node) }

// Site returns the machine at which an endpoint runs. It is the part of the name after the last
// hyphen, so node-2 and coordinator-2 share a site.
func Site(endpoint string) string { return endpoint[strings.LastIndexByte(endpoint, '-')+1:] }

// Directory is a directory with one file for each endpoint, which has its TCP address. An endpoint
// gets a new port at each start, so two runs never compete for one.
type Directory string

// Announce records the address of an endpoint.
func (d Directory) Announce(endpoint, address string) error {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return err
	}
	file := filepath.Join(string(d), endpoint)
	if err := os.WriteFile(file+".new", []byte(address), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// Lookup returns the address of an endpoint. It returns fs.ErrNotExist if the endpoint has never
// started.
func (d Directory) Lookup(endpoint string) (string, error) {
	address, err := os.ReadFile(filepath.Join(string(d), endpoint))
	return string(address), err
}
