// A real engine pulls through the rules of its mirror.
import { describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { printedOf, RULES } from './support/ruled.ts';
import { AMD64, APP, IN_FORCE, ruledContract, UNCHANGED } from './support/ruled-contract.ts';

const FAULTY = '"msg":"the changed rules have errors: the previous ones stay active"';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'openssl']);

describe.skipIf(missing)(`docker, ruled${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  const getEnvironment = ruledContract('docker', {
    refused: /unexpected HTTP status: 503 the rule corporate-ca changes .+ \(docker\.io is strict: no such process\)/,
  });

  test('continues with the old rules when veneer.yaml gets a fault, which the log tells, until it is put right', async () => {
    const { veneer, runtime } = await getEnvironment().start();
    const { digest } = await veneer.explain(APP);
    const [ca, ...others] = RULES;
    const withoutLayer = { ...ca, layers: [{ directory: './layers/gone' }] };
    const faults: readonly [fault: string, change: () => Promise<void>][] = [
      ['rules.0.layers.0: there is no ./layers/gone', () => veneer.writeRules(withoutLayer, ...others)],
      ['rules.1.evn', () => veneer.writeRules(ca, { name: 'typo', match: { image: '**' }, evn: { A: '1' } })],
      ['veneer.yaml', () => veneer.writeConfiguration('rules: [')],
    ];
    for (const [fault, change] of faults) {
      expect(await veneer.logs(FAULTY, change)).toContain(fault);
      const { digests, printed } = await runtime.see(APP, AMD64);
      expect([printed, digests.includes(String(digest))], fault).toEqual([printedOf('x86_64', 'first'), true]);
    }
    await veneer.logs(IN_FORCE, () => veneer.writeRules());
    expect((await runtime.see(APP, AMD64)).printed).toBe(UNCHANGED);
  });
});
