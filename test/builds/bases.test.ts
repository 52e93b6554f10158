// The variants of arm that a builder has without naming them.
import { expect, test } from 'vitest';
import { withOlderArmVariants } from '../../src/builds/bases.ts';
import { formatPlatform, parsePlatforms } from '../../src/oci/platform.ts';

test.each([
  ['linux/arm/v7', 'linux/arm/v7,linux/arm/v6,linux/arm/v5'],
  ['linux/arm/v6', 'linux/arm/v6,linux/arm/v5'],
  ['linux/arm/v5', 'linux/arm/v5'],
  ['linux/arm/v7,linux/arm/v6', 'linux/arm/v7,linux/arm/v6,linux/arm/v5'],
  ['linux/amd64,linux/arm64', 'linux/amd64,linux/arm64'],
  ['linux/amd64/v3,linux/arm/v9', 'linux/amd64/v3,linux/arm/v9'],
])('a builder for %s builds for %s', (listed, built) => {
  expect(withOlderArmVariants(parsePlatforms(listed)).map(formatPlatform).join()).toBe(built);
});
