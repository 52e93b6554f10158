// A real engine pulls through the rules of its mirror.
import { describe } from 'vitest';
import { findMissing } from './support/clients.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { ruledContract } from './support/ruled-contract.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'openssl']);

describe.skipIf(missing)(`docker, ruled${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  ruledContract('docker', {
    refused: /unexpected HTTP status: 503 the rule corporate-ca changes .+ \(docker\.io is strict: no such process\)/,
  });
});
