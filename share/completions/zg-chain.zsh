autoload -U +X bashcompinit && bashcompinit
_zg_chain() {
  local cur="${COMP_WORDS[COMP_CWORD]}" words
  if [ "$COMP_CWORD" -eq 1 ]; then words="node init send call deploy balance block tx logs watch keys config completion help"; else case "${COMP_WORDS[1]}" in
    node) words="--dev --dir --rpc-port --rpc-host --socket --block-time --gas-limit --chain-id --kind --show-keys --allow-host --json --quiet --verbose --no-color --progress --config --network --help" ;;
    init) words="--dir --chain-id --genesis --kind --fund --balance --gas-limit --json --quiet --verbose --no-color --progress --config --network --help" ;;
    send) words="--sig --value --data --from --account --private-key --password-file --password-fd --rpc-url --dry-run --no-wait --timeout --json --quiet --verbose --no-color --progress --config --network --help" ;;
    call) words="--from --block --data --rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    deploy) words="--value --from --account --private-key --password-file --password-fd --rpc-url --dry-run --no-wait --timeout --json --quiet --verbose --no-color --progress --config --network --help" ;;
    balance) words="--block --rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    block) words="--full --rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    tx) words="--rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    logs) words="--topic --from-block --to-block --limit --rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    watch) words="--count --rpc-url --json --quiet --verbose --no-color --progress --config --network --help" ;;
    keys) words="new list import export --password-file --password-fd --json --quiet --verbose --no-color --progress --config --network --help" ;;
    config) words="--help" ;;
    completion) words="--help" ;;
    help) words="--help" ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -F _zg_chain zg-chain
