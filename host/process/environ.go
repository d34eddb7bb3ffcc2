package process

import (
	"runtime"
	"slices"
	"strings"
)

// passed are the variables that every process gets: where programs, temporary files and the
// user's own files are, and how to write times and text. None of them holds a secret. On
// Windows, many programs do not run without some of the last ones.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CACHE_HOME", "TZ", "LANG", "LANGUAGE", "LC_*",
	"SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "TEMP", "TMP", "USERNAME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "ProgramData",
	"NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
}

// environment returns those of the host's variables that a process gets: the ones in passed,
// and the ones that are granted; see [wall.Options].
func environment(host, granted []string) (all []string) {
	names := slices.Concat(passed, granted)
	for _, entry := range host {
		variable, _, ok := strings.Cut(entry, "=")
		if ok && slices.ContainsFunc(names, func(name string) bool { return covers(name, variable) }) {
			all = append(all, entry)
		}
	}
	return all
}

// covers reports whether a name, which may end in *, covers a variable.
func covers(name, variable string) bool {
	if runtime.GOOS == "windows" {
		name, variable = strings.ToUpper(name), strings.ToUpper(variable)
	}
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return strings.HasPrefix(variable, prefix)
	}
	return name == variable
}
