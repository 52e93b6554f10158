// What a builder can do, from what buildx printed of real ones.
import { expect, test } from 'vitest';
import { parseBuilder } from '../../../../src/builds/backends/docker/builder.ts';
import { BackendUnavailable } from '../../../../src/builds/execution.ts';
import { formatPlatform } from '../../../../src/oci/platform.ts';

const ENGINE = `Name:          default
Driver:        docker
Last Activity: 2026-11-23 11:16:22 +0000 UTC

Nodes:
Name:             default
Endpoint:         default
Status:           running
BuildKit version: v0.8+unknown
Platforms:        linux/amd64, linux/arm64, linux/arm/v7*, linux/arm/v6
Features:
 Automatically load images to the Docker Engine image store: true
 Cache export:                                               false
 Multi-platform build:                                       false
`;

const REMOTE = `Name:          rem
Driver:        remote
Last Activity: 2026-11-23 11:16:22 +0000 UTC

Nodes:
Name:             rem0
Endpoint:         unix:///run/buildkitd.sock
Status:           running
BuildKit version: v0.0.0+unknown
Platforms:        linux/amd64, linux/amd64/v2
Features:
 Automatically load images to the Docker Engine image store: false
 Cache export:                                               true
 Multi-platform build:                                       true
Labels:
 org.mobyproject.buildkit.worker.executor:         oci
GC Policy rule#0:
 All:            false
 Filters:        type==source.local type==exec.cachemount

Name:             rem1
Endpoint:         tcp://arm:1234
Status:           running
BuildKit version: v0.34.2
Platforms:        linux/arm64, linux/amd64
Features:
 Automatically load images to the Docker Engine image store: false
 Cache export:                                               true
 Multi-platform build:                                       true
`;

const LABEL = 'org.mobyproject.buildkit.worker.network';

const CONTAINER = `Name:          mine
Driver:        docker-container

Nodes:
Name:                  mine0
Endpoint:              unix:///var/run/docker.sock
Driver Options:        OPTIONS
Status:                running
BuildKit version:      v0.34.2
Platforms:             linux/amd64
`;

const OFF = `Name:          dead
Driver:        remote

Nodes:
Name:     dead0
Endpoint: unix:///nope.sock
Status:   inactive
`;

test('an engine with the classic image store builds for one platform at a time', () => {
  const { platforms, ...builder } = parseBuilder(ENGINE);
  expect(builder).toEqual({
    ...{ driver: 'docker', isMultiPlatform: false, hasCacheExport: false, hasSourcePolicies: false, keepsImages: true },
    hostNetworks: [],
  });
  expect(platforms.map(formatPlatform)).toEqual([
    'linux/amd64',
    'linux/arm64',
    'linux/arm/v7',
    'linux/arm/v6',
    'linux/arm/v5',
  ]);
});

test('a builder of several nodes builds for what any of them can', () => {
  const { platforms, ...builder } = parseBuilder(REMOTE);
  expect(builder).toEqual({
    ...{ driver: 'remote', isMultiPlatform: true, hasCacheExport: true, hasSourcePolicies: true, keepsImages: false },
    hostNetworks: [],
  });
  expect(platforms.map(formatPlatform)).toEqual(['linux/amd64', 'linux/amd64/v2', 'linux/arm64']);
});

test('one that does not run builds for nothing', () => {
  expect(parseBuilder(OFF)).toMatchObject({ driver: 'remote', platforms: [] });
});

test.each([
  ['docker', false],
  ['docker-container', true],
])('a buildx that lists no features is known by its driver: %s', (driver, isMultiPlatform) => {
  const text = `Name: x\nDriver: ${driver}\n\nNodes:\nName: x0\nStatus: running\nPlatforms: linux/amd64\n`;
  expect(parseBuilder(text)).toMatchObject({ isMultiPlatform, hasCacheExport: isMultiPlatform });
});

test.each([
  ['v0.8+unknown', false],
  ['v0.10.6', false],
  ['v0.11.0', true],
  ['v0.34.2', true],
  ['v1.0.0', true],
  ['v0.0.0+unknown', true],
])('a BuildKit %s pins base images: %s', (version, hasSourcePolicies) => {
  expect(parseBuilder(ENGINE.replace('v0.8+unknown', version))).toMatchObject({ hasSourcePolicies });
});

test('an engine that does not answer is unavailable, with the reason', () => {
  const text = 'Name:   default\nDriver: \nError:  failed to connect to the docker API at unix:///nope\n';
  expect(() => parseBuilder(text)).toThrow(BackendUnavailable);
  expect(() => parseBuilder(text)).toThrow(/failed to connect to the docker API at unix:\/\/\/nope$/);
});

test.each([
  [
    'of a BuildKit in the network of its machine, its address',
    REMOTE.replace('Labels:', `Labels:\n ${LABEL}: host`),
    ['unix:///run/buildkitd.sock'],
  ],
  ['of one with a network for its steps, nothing', REMOTE.replace('Labels:', `Labels:\n ${LABEL}: cni`), []],
  ['of an engine, which has a bridge, nothing', `${ENGINE}Labels:\n ${LABEL}: host\n`, []],
  [
    'of a container with that of the machine, the machine',
    CONTAINER.replace('OPTIONS', 'network="host"'),
    ['tcp://localhost'],
  ],
  ['of a container with one of its own, nothing', CONTAINER.replace('OPTIONS', 'image="x"'), []],
])('tells where steps share a network: %s', (_, text, expected) => {
  expect(parseBuilder(text).hostNetworks).toEqual(expected);
});
