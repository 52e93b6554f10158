// What is wrong with a build that was asked for, found before anything of it starts.

/** `message` is for people: it names field and rule, and holds no secret. */
export class InvalidBuild extends Error {
  override readonly name = 'InvalidBuild';
}
