_zg_store() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  if [ "$COMP_CWORD" -eq 1 ]; then words="put get stat ls root kv node indexer config completion help"; else case "${COMP_WORDS[1]}" in
    put) words="--expected-replica --no-wait --dry-run --encryption-key-file --tags --indexer --node --rpc-url --account --password-file --finality-required --fragment-size --timeout --json --quiet --verbose --no-color --progress --config --network --help" ;;
    get) words="--output --force --encryption-key-file --proof --indexer --node --json --quiet --verbose --no-color --progress --config --network --help" ;;
    stat) words="--indexer --node --json --quiet --verbose --no-color --progress --config --network --help" ;;
    ls) words="--limit --indexer --node --json --quiet --verbose --no-color --progress --config --network --help" ;;
    root) words="--json --quiet --verbose --no-color --progress --config --network --help" ;;
    kv) words="get put node --kv --at --json --quiet --verbose --no-color --progress --config --network --delete --seen --wait --no-wait --expected-replica --indexer --node --rpc-url --account --password-file --timeout --dir --rpc-port --rpc-host --allow-host --stream --all-streams --flow --start-block --confirmations --download-timeout --max-file --encryption-key-file --help" ;;
    node) words="--dir --rpc-port --rpc-host --rpc-url --chain --flow --start-block --confirmations --peer --p2p-port --p2p-host --public-url --shard --socket --allow-host --json --quiet --verbose --no-color --progress --config --network --help" ;;
    indexer) words="--rpc-port --rpc-host --allow-host --node --rpc-url --account --password-file --expected-replica --put-max --json --quiet --verbose --no-color --progress --config --network --help" ;;
    config) words="--help" ;;
    completion) words="--help" ;;
    help) words="--help" ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _zg_store zg-store
