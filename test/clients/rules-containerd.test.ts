// A real containerd pulls through the rules of its mirror, as a kubelet has it do: a tag is resolved, and then all is had by digests.
import { describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { type Relay, startRelay } from './support/relay.ts';
import { printedOf } from './support/ruled.ts';
import { AMD64, APP, ruledContract } from './support/ruled-contract.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'containerd', 'ctr', 'containerd-shim-runc-v2', 'openssl']);

describe.skipIf(missing)(`containerd, ruled${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  const getEnvironment = ruledContract('containerd', {
    refused:
      /pulling from host 127\.0\.0\.1:\d+ failed with status code \[manifests sha256:\w+\]: 403 the rule corporate-ca changes/,
  });

  test('asks with the namespace of its registry for the tag once, and from then on by digests that agree', async () => {
    const relays: Relay[] = [];
    const openWay = async (mirror: string) => {
      const relay = await startRelay(mirror);
      relays.push(relay);
      return relay;
    };
    const { veneer, runtime, hub } = await getEnvironment().start({ openWay });
    const count = (reference: string) =>
      relays[0]?.count(new RegExp(`^/v2/library/app/manifests/${reference}\\?ns=docker\\.io$`)) ?? 0;
    const { digest } = await veneer.explain(APP);
    for (const image of [APP, `library/app@${digest}`, `${APP}@${digest}`]) {
      const { digests, printed } = await runtime.see(image, AMD64);
      expect([printed, digests]).toEqual([printedOf('x86_64', 'first'), [digest]]);
      expect(count('1')).toBe(1);
    }
    expect(count(String(digest))).toBeGreaterThan(0);
    expect(hub.paths).toEqual([]);
  });
});
