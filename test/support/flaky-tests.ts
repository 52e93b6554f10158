// Tests that passed only when they were tried again, with what failed first: none of them is lost in a run that is green.
import type { Reporter, TestCase } from 'vitest/node';

export class FlakyTests implements Reporter {
  readonly #found: TestCase[] = [];

  onTestCaseResult(test: TestCase): void {
    if (test.diagnostic()?.flaky) this.#found.push(test);
  }

  onTestRunEnd(): void {
    if (this.#found.length === 0) return;
    report(`\n${this.#found.length} passed only when tried again, and should be cured:`);
    for (const test of this.#found) {
      report(` ${test.project.name}  ${test.module.relativeModuleId} > ${test.fullName}`);
      for (const { message, stack } of test.result().errors ?? []) report(stack ?? message);
    }
  }
}

const report = (line: string) => process.stderr.write(`${line}\n`);
