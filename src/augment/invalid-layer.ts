// What is wrong with a layer.

/** It cannot be used as given: wrong claims, broken bytes, no tar, too large, or a location that we do not take. Free of secrets. */
export class InvalidLayer extends Error {
  override readonly name = 'InvalidLayer';
}
