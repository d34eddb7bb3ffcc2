package process

// NextInterval returns the interval until the next sample.
var NextInterval = nextInterval
