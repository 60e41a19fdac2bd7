package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"migrationlog/bench/peer"
)

// machine describes the machine on which the figures were measured.
type machine struct {
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"`
	MemoryMiB  int    `json:"memory_mib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
}

func thisMachine(dir string) (machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, err
	}
	fileSystem, err := fileSystemOf(dir)
	return machine{
		CPU: cpuModel(), CPUs: runtime.NumCPU(), MemoryMiB: int(uint64(info.Totalram) * uint64(info.Unit) / mib),
		Kernel:     unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Machine[:]),
		FileSystem: fileSystem, Go: runtime.Version(),
	}, err
}

// commit returns the commit of a checkout, "" if git does not report one.
func commit(dir string) string {
	out, err := exec.Command("git", "-C", dir, "describe", "--always", "--dirty", "--exclude", "*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystemOf returns the type and the options of the mount that contains dir.
func fileSystemOf(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	best, found := "", "unknown"
	for line := range strings.Lines(string(mounts)) {
		field := strings.Fields(line)
		if len(field) < 4 || len(field[1]) < len(best) {
			continue
		}
		if field[1] == "/" || dir == field[1] || strings.HasPrefix(dir, field[1]+"/") {
			best, found = field[1], fmt.Sprintf("%s (%s)", field[2], field[3])
		}
	}
	return found, nil
}

// isMemory reports whether the file system keeps its files in memory, where an fsync costs nothing.
func (m machine) isMemory() bool {
	return strings.HasPrefix(m.FileSystem, "tmpfs") || strings.HasPrefix(m.FileSystem, "ramfs")
}

// aboutOld describes the build of -old.
func aboutOld(checkout string) about {
	ours, _ := peer.Named(ours) // it is one of peer.All
	return about{
		Name: variantOf(oldBuild), Version: "commit " + cmp.Or(commit(checkout), "not known"),
		Keeps: ours.Keeps, Setup: "as migrationlog",
	}
}

// aboutPeers describes the peers, with the versions that were built in.
func aboutPeers() (all []about) {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
	}
	for _, p := range peer.All() {
		a := about{Name: p.Name, Version: "of this repository", Keeps: p.Keeps, Setup: p.Setup}
		if p.Module != "" {
			a.Version = p.Module + " " + versions[p.Module]
		}
		all = append(all, a)
	}
	return all
}
