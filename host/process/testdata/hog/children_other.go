//go:build unix && !linux

package main

import "errors"

func startChild(string, map[string]string) error { return errors.ErrUnsupported }

func actAsChild() {}
