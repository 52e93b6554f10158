// A step that cannot be done: a fault of the Containerfile or of what it works on.

/** `message` says what is wrong; where, is told by who knows the step. */
export class InvalidStep extends Error {
  override readonly name = 'InvalidStep';
}
