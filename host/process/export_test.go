package process

// NextLook is the sampler's next look.
var NextLook = nextLook
