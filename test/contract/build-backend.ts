// What every builder keeps to: the contract of src/builds/backend.ts as tests, against real registries.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatPlatform } from '../../src/oci/platform.ts';
import { type BackendPlace, type Bench, createBench } from '../support/build-bench.ts';
import { abortContract } from './build-backend-aborts.ts';
import { failureContract } from './build-backend-failures.ts';
import { PLATFORMS, resultContract, runContract, severalContract } from './build-backend-results.ts';

export interface BackendCapabilities {
  /** Whether it can RUN, also for other architectures than the machine's. */
  readonly hasRun: boolean;
  /** The backend's own; where it is false, images are joined above it. */
  readonly isMultiPlatform: boolean;
  /** Whether it pushes with the credentials of the order; else with those of the service. Default: true. */
  readonly takesCredentials?: boolean;
}

export function backendContract(createPlace: () => Promise<BackendPlace>, capabilities: BackendCapabilities): void {
  let bench: Bench;
  const getBench = () => bench;

  beforeAll(async () => {
    bench = createBench(await createPlace());
  });

  afterAll(() => bench?.place.close(), 60_000);

  describe('of the contract', () => {
    test('it has a name, and says whether one build can be for several platforms', () => {
      expect(bench.place.backend.name).not.toBe('');
      expect(bench.place.backend.isMultiPlatform).toBe(capabilities.isMultiPlatform);
    });

    test('it lists the platforms that it builds for, normalised, each once', async () => {
      const platforms = await bench.place.backend.listPlatforms(new AbortController().signal);
      const names = platforms.map(formatPlatform);
      expect(names).toEqual(expect.arrayContaining([...PLATFORMS]));
      expect(names).toEqual([...new Set(names)]);
    });

    test('it supports a plain spec', async () => {
      const { spec } = await bench.prepare({ containerFile: `FROM ${bench.place.base}\nCOPY a /a\n` });
      expect(bench.place.backend.findUnsupportedReason(spec)).toBeUndefined();
    });

    resultContract(getBench);
    failureContract(getBench, { takesCredentials: capabilities.takesCredentials ?? true });
    abortContract(getBench, capabilities);
    if (capabilities.hasRun) runContract(getBench);
    if (capabilities.isMultiPlatform) severalContract(getBench, capabilities);
  });
}
