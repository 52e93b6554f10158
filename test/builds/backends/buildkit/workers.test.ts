// What the workers of a BuildKit can build for.
import { expect, test } from 'vitest';
import { parseWorkers } from '../../../../src/builds/backends/buildkit/backend.ts';
import { BackendUnavailable } from '../../../../src/builds/execution.ts';
import { formatPlatform } from '../../../../src/oci/platform.ts';

test('reads the platforms of all workers, each once, with the older variants of arm that none lists', () => {
  const workers = [
    {
      platforms: [
        { os: 'linux', architecture: 'amd64' },
        { os: 'linux', architecture: 'arm', variant: 'v7' },
      ],
    },
    {
      id: 'x',
      platforms: [
        { os: 'linux', architecture: 'arm64', variant: 'v8' },
        { os: 'linux', architecture: 'amd64' },
      ],
    },
    { platforms: null },
  ];
  const names = parseWorkers(JSON.stringify(workers)).platforms.map(formatPlatform);
  expect(names).toEqual(['linux/amd64', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5', 'linux/arm64']);
});

test.each([
  ['host', true],
  ['cni', false],
  [undefined, false],
])('knows that the steps of a worker have the network of its machine: %s', (network, expected) => {
  const labels = network === undefined ? {} : { 'org.mobyproject.buildkit.worker.network': network };
  const workers = [
    { platforms: [], labels: null },
    { platforms: [], labels },
  ];
  expect(parseWorkers(JSON.stringify(workers)).hasHostNetwork).toBe(expected);
});

test.each(['', '{}', '[{"platforms": [1]}]', 'error'])('takes %j for no list of workers', output => {
  expect(() => parseWorkers(output)).toThrow(BackendUnavailable);
});
