//go:build !linux

package storetest

import "errors"

const (
	hasLimits = false
	pageBytes = 4096
)

func limitFileSize(uint64) error { return errors.ErrUnsupported }

type disk struct{ path string }

func mountDisk() (*disk, error) { return nil, errors.ErrUnsupported }

func (*disk) fill(int) error { return errors.ErrUnsupported }
func (*disk) clear() error   { return errors.ErrUnsupported }
func (*disk) unmount() error { return errors.ErrUnsupported }
