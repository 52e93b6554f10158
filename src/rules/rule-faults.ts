// What is wrong with rules or their layers.

/** Each fault names its place. None quotes a secret. */
export class RuleFaults extends Error {
  override readonly name = 'RuleFaults';
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options?: ErrorOptions) {
    super(faults.join('; '), options);
    this.faults = faults;
  }
}
